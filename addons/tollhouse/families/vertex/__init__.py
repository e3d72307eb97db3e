"""Google's API, as Vertex AI speaks it: https://cloud.google.com/vertex-ai/generative-ai/docs/reference/rest.

Vertex has no code for an empty account. The list of models is open.
"""

import re
from dataclasses import replace
from typing import Final

from tollhouse.families.base import MODELS, Route
from tollhouse.families.google import GOOGLE

# `publishers.models.list` is in v1beta1 alone: aiplatform_v1beta1.publishers.models of google-api-python-client.
VERTEX: Final = replace(
    GOOGLE, routes=(Route("GET", re.compile(r"/v1beta1/publishers/google/models"), MODELS),)
)
