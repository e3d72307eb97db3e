"""AWS Bedrock runtime: one host a region. Known by name and host; no endpoint is open yet."""

from tollhouse.providers.base import CredentialSlot, Provider

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
    family="bedrock",
    hosts=tuple(f"bedrock-runtime.{region}.amazonaws.com" for region in _REGIONS),
    slot=CredentialSlot("authorization", "Bearer "),
    key_variables=("AWS_BEARER_TOKEN_BEDROCK",),
    prices_from="aws",
)
