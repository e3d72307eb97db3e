"""The families whose errors are judged, by name."""

from tollhouse.families.anthropic import ANTHROPIC
from tollhouse.families.bedrock import BEDROCK
from tollhouse.families.cohere import COHERE
from tollhouse.families.google import GOOGLE
from tollhouse.families.mistral import MISTRAL
from tollhouse.families.openai import OPENAI

FAMILIES = {family.name: family for family in (ANTHROPIC, BEDROCK, COHERE, GOOGLE, MISTRAL, OPENAI)}
