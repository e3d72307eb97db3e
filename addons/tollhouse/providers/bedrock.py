"""AWS Bedrock: two hosts a region, for calls and for control."""

import re

from tollhouse.families import bedrock as family
from tollhouse.providers.exchange_terms import ExchangeStep, ExchangeTerms, Parameter, Refusal
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

# Claude 3 and Command R: zilliz.com/ai-faq, "default limits on input prompt length and output length".
# Nova: https://docs.aws.amazon.com/nova/latest/userguide/complete-request-schema.html says 5,000, and
# resellers say up to 8,200. The number here is above both.
_OUTPUT_LIMITS = (
    ("*claude-3-haiku-*", 4_096),
    ("*claude-3-sonnet-*", 4_096),
    ("*claude-3-opus-*", 4_096),
    ("*amazon.nova-micro-*", 10_000),
    ("*amazon.nova-lite-*", 10_000),
    ("*amazon.nova-pro-*", 10_000),
    ("*cohere.command-r-*", 4_096),
)

# https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html. The call is unsigned.
_EXCHANGE = ExchangeTerms(
    steps=(
        ExchangeStep(
            "https://sts.{region}.amazonaws.com/",
            (
                ("Action", "AssumeRoleWithWebIdentity"),
                ("Version", "2011-06-15"),
                ("RoleArn", "{role_arn}"),
                ("RoleSessionName", "{session_name}"),
                ("DurationSeconds", "{duration_s}"),
                ("WebIdentityToken", "{subject_token}"),
            ),
            "form",
            "keys",
        ),
    ),
    hosts=(
        *("bedrock-runtime.*.amazonaws.com", "bedrock.*.amazonaws.com"),
        # Of a VPC.
        *("*.bedrock-runtime.*.vpce.amazonaws.com", "*.bedrock.*.vpce.amazonaws.com"),
    ),
    parameters={
        "role_arn": Parameter(
            re.compile(r"arn:aws[a-z-]*:iam::[0-9]{12}:role/[\w+=,.@/-]{1,512}", re.ASCII)
        ),
        "region": Parameter(re.compile(r"[a-z]{2}(-[a-z]+)+-[0-9]")),
        "session_name": Parameter(re.compile(r"[\w+=,.@-]{2,64}", re.ASCII), "tollhouse"),
        "duration_s": Parameter(
            re.compile(
                r"9[0-9]{2}|[1-9][0-9]{3}|[1-3][0-9]{4}|4[0-2][0-9]{3}|43[01][0-9]{2}|43200"
            ),
            "3600",
        ),
    },
    audience="sts.amazonaws.com",
    refusals=(
        Refusal(
            "InvalidIdentityToken",
            "subject",
            "The token is not valid there, or its issuer is no OIDC provider of the account.",
        ),
        Refusal(
            "ExpiredTokenException",
            "subject",
            "The subject token has ended; look at this machine's clock.",
        ),
        Refusal(
            "IDPRejectedClaim",
            "audience",
            "The OIDC provider of the account does not have this audience, or refuses the subject.",
        ),
        Refusal(
            "AccessDenied",
            "rule",
            "The trust policy of the role does not allow this subject and audience.",
        ),
        Refusal(
            "RegionDisabledException", "rule", "STS is switched off in this region for the account."
        ),
        Refusal(
            "ValidationError", "rule", "The role, the session's name or its duration is refused."
        ),
        Refusal("IDPCommunicationError", "network", "It can't fetch the issuer's keys.", away=True),
        Refusal("Throttling", "network", "It limits the rate.", away=True),
    ),
)

BEDROCK = Provider(
    name="bedrock",
    company="AWS",
    service="Amazon Bedrock",
    genai_name="aws.bedrock",
    family=family.BEDROCK,
    exchange=_EXCHANGE,
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
    output_limits=_OUTPUT_LIMITS,
    longest_context=10_000_000,
)
