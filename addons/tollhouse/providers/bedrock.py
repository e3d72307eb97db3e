"""AWS Bedrock: two hosts a region, for calls and for control. The control plane's list of models is open."""

from tollhouse.families import bedrock as family
from tollhouse.providers.provider import CredentialSlot, Provider

# https://docs.aws.amazon.com/general/latest/gr/bedrock.html
_REGIONS = (
    "us-east-1",
    "us-east-2",
    "us-west-2",
    "ca-central-1",
    "eu-central-1",
    "eu-west-1",
    "eu-west-2",
    "eu-west-3",
    "eu-north-1",
    "ap-northeast-1",
    "ap-south-1",
    "ap-southeast-1",
    "ap-southeast-2",
    "sa-east-1",
)

BEDROCK = Provider(
    name="bedrock",
    family=family.BEDROCK,
    hosts=tuple(
        f"{service}.{region}.amazonaws.com"
        for service in ("bedrock-runtime", "bedrock")
        for region in _REGIONS
    ),
    slot=CredentialSlot("authorization", "Bearer "),
    free_call="/foundation-models",
    accepts=frozenset({"key", "aws"}),
    key_variables=("AWS_BEARER_TOKEN_BEDROCK",),
    prices_from="aws",
    longest_context=10_000_000,
)
