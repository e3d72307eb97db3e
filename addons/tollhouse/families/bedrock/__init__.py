"""AWS Bedrock's API: https://docs.aws.amazon.com/bedrock/latest/APIReference. The control plane's list of models is open.

Bedrock has no code for an empty account. Any other 403 is a right that the key lacks.
"""

from __future__ import annotations

import re
from typing import Final

from tollhouse.families.base import MODELS, Family, Route, Rule
from tollhouse.families.formats.errors import EVERYWHERE, message
from tollhouse.families.formats.plain_errors import error_body, error_event

BEDROCK: Final = Family(
    "bedrock",
    # https://docs.aws.amazon.com/bedrock/latest/APIReference/API_ListFoundationModels.html
    routes=(
        Route(
            "GET",
            re.compile(r"/foundation-models"),
            MODELS,
            hosts=re.compile(r"bedrock(?:-fips)?\.[a-z0-9-]+\.amazonaws\.com(?:\.cn)?"),
        ),
    ),
    error_body=error_body,
    error_event=error_event,
    verdicts=(
        Rule(
            "refused",
            403,
            "https://docs.aws.amazon.com/bedrock/latest/APIReference/CommonErrors.html",
            kind=("ExpiredToken", "InvalidSignature", "UnrecognizedClient"),
        ),
        Rule(
            "refused",
            403,
            "of a Bedrock API key: https://github.com/anomalyco/opencode/issues/47073",
            message(r"Authentication failed: Please make sure your API Key is valid"),
        ),
        *EVERYWHERE,
    ),
)
