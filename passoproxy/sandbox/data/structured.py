"""Requirements as flags and figures: the `json` forms of overview, entry, visa and health."""

from passoproxy.sandbox.data.rules import Requirements
from passoproxy.sandbox.data.texts import named

Members = dict[str, object]


def overview(rules: Requirements, language: str) -> Members:
    """`/content/overview/json`: what is allowed and required, as flags."""
    return {
        "language": language,
        "entry": {
            "allowed": True,
            "additional_content": [],
            "registration": {"required": rules.registration, "additional_content": []},
            "documents": {
                "passport": {"allowed": True},
                "temporary_passport": {"allowed": True},
                "id_card": {"allowed": rules.id_card},
            },
            "documents_additional_content": [],
            "minors": {"documents_required": True, "additional_content": []},
        },
        "visa": {"required": rules.visa_required, "additional_content": []},
        "health": {
            "insurance": {"required": rules.insurance, "additional_content": []},
            "vaccination": {"required": rules.yellow_fever != "no", "additional_content": []},
        },
    }


def entry(rules: Requirements, language: str) -> Members:
    """`/content/entry/json`: status, documents, minors, additional information."""
    validity: Members = {"type": "during_stay", "days": None}
    if rules.passport_days is not None:
        validity = {"type": "on_arrival", "days": rules.passport_days}
    info = (
        [{"code": "registration", "title": named("registration", language), "content": []}]
        if rules.registration
        else []
    )
    return {
        "status": "possible",
        "documents": {
            "passport": _document("passport", language, allowed=True, validity=validity)
            | {"unused_pages": rules.blank_pages},
            "temporary_passport": _document("temporary_passport", language, allowed=True, validity=validity),
            "id_card": _document(
                "id_card", language, allowed=rules.id_card, validity={"type": "during_stay", "days": None}
            ),
        },
        "minors": {
            "documents": [],
            "documents_required": [{"code": "child_passport", "name": named("child_passport", language)}],
        },
        "additional_info": {
            "list": [*info, {"code": "return_ticket", "title": named("return_ticket", language), "content": []}]
        },
        "additional_content": [],
        "updated_at": rules.changed,
    }


def _document(code: str, language: str, *, allowed: bool, validity: Members) -> Members:
    return {"name": named(code, language), "entry_allowed": allowed, "validity": validity, "additional_content": []}


def visa(rules: Requirements, language: str) -> Members:
    """`/content/visa/json`: whether, from when on, and how to apply."""
    least, most = rules.handling_days
    papers = ("passport", "photograph", "return_ticket", "bank_statement") if rules.visa_required else ()
    return {
        "required": {"status": "required" if rules.visa_required else "not_required", "additional_content": []},
        "required_if": [],
        "required_after_days": rules.stay_days if rules.visa == "free" else None,
        "application": {
            "foreign_representation": {
                "available": rules.visa == "embassy",
                "handling_time": {"from": least, "to": most, "unit": "day"},
            },
            "e_visa": {
                "available": rules.visa == "evisa",
                "application_url": f"https://evisa.{rules.destination.code.lower()}.example/"
                if rules.visa == "evisa"
                else None,
            },
            "on_arrival": {"available": rules.visa == "arrival"},
        },
        "fee": {"amount": rules.fee, "currency": "USD"} if rules.visa_required else None,
        "documents": {"list": [{"code": code, "name": named(code, language)} for code in papers]},
        "footnotes": [],
        "updated_at": rules.changed,
    }


def health(rules: Requirements, language: str) -> Members:
    """`/content/health/json`: immunizations, medication, groups at risk."""
    immunizations = {code: _immunization(code, language, recommended=True) for code in rules.vaccinations}
    immunizations["yellow_fever"] = _immunization("yellow_fever", language, required=rules.yellow_fever == "all")
    if rules.yellow_fever == "risk":
        immunizations["yellow_fever"]["required_if"] = [{"code": "arrival_from_risk_area"}]
    risks = [] if rules.malaria == "no" else [{"code": "malaria", "name": named("malaria", language)}]
    return {
        "status": "available",
        "additional_content": [],
        "immunizations": immunizations,
        "medication": {"information": risks, "additional_content": []},
        "risk_groups": {
            "pregnant": {"has_risk": bool(risks), "risks": risks},
            "child": {"has_risk": rules.malaria == "all", "risks": risks if rules.malaria == "all" else []},
        },
        "insurance": {"required": rules.insurance},
        "updated_at": rules.changed,
    }


def _immunization(code: str, language: str, *, required: bool = False, recommended: bool = False) -> Members:
    return {
        "name": named(code, language),
        "required": required,
        "required_if": [],
        "recommended": recommended,
        "recommended_if": [],
        "additional_content": [],
    }


FORMS = {"overview": overview, "entry": entry, "visa": visa, "health": health}


def matches(found: object, wanted: object) -> bool:
    """Whether a record fulfils a filter: objects by each member that the filter names, lists by holding, else equality."""
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(
            name in found and matches(found[name], part) for name, part in wanted.items()
        )
    if isinstance(wanted, list):
        return found in wanted if not isinstance(found, list) else all(part in found for part in wanted)
    if isinstance(found, bool) or isinstance(wanted, bool):
        return found is wanted
    return found == wanted
