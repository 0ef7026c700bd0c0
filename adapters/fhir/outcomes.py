"""OperationOutcome: the answer to everything that goes wrong under ``/fhir``. It never carries personal data."""

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from sas_matcher.domain.errors import SasError

# Our stable codes → FHIR issue types (value set issue-type)
_TYPES: Final = {
    "invalid_input": "invalid",
    "not_authenticated": "login",
    "not_allowed": "forbidden",
    "not_found": "not-found",
    "conflict": "conflict",
    "too_large": "too-long",
    "too_many_requests": "throttled",
    "unavailable": "transient",
    "method_not_allowed": "not-supported",
    "bad_request": "structure",
}


class Issue(NamedTuple):
    """What is wrong: FHIR issue type, French text, and the elements or parameters (FHIRPath)."""

    type: str
    text: str
    expression: tuple[str, ...] = ()


class FhirError(SasError):
    """A malformed FHIR request (400)."""

    status = 400
    code = "fhir_request"
    title = "Requête FHIR refusée"

    def __init__(self, *issues: Issue) -> None:
        super().__init__(issues[0].text)
        self.issues = issues


class FhirRuleError(FhirError):
    """A readable resource that breaks a rule of its profile or of the accounts (422)."""

    status = 422
    code = "fhir_rule"


def outcome(issues: Iterable[Issue]) -> dict[str, Any]:
    """Return the OperationOutcome of some issues."""
    return {
        "resourceType": "OperationOutcome",
        "issue": [
            {
                "severity": "error",
                "code": issue.type,
                "diagnostics": issue.text,
                **({"expression": list(issue.expression)} if issue.expression else {}),
            }
            for issue in issues
        ],
    }


def outcome_of(error: SasError) -> dict[str, Any]:
    """Return the OperationOutcome of any error of ours."""
    if isinstance(error, FhirError):
        return outcome(error.issues)
    named = [Issue("invalid", e["message"], (e["field"],)) for e in error.extra.get("errors", ())]
    return outcome(named or [Issue(_TYPES.get(error.code, "exception"), error.detail)])


def read_outcome(document: Any) -> str:
    """Return what an OperationOutcome of another server says, in one line; empty when it is none."""
    if not isinstance(document, dict) or document.get("resourceType") != "OperationOutcome":
        return ""
    # another server's answer may have any shape
    issues = document.get("issue")
    texts = [_said(issue) for issue in issues if isinstance(issue, dict)] if isinstance(issues, list) else []
    return " ; ".join(str(text) for text in texts if text)[:500]


def _said(issue: dict[str, Any]) -> Any:
    details = issue.get("details")
    text = details.get("text") if isinstance(details, dict) else None
    return issue.get("diagnostics") or text or issue.get("code")
