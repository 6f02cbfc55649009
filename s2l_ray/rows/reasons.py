"""Why a row is quarantined."""

from enum import StrEnum


class Reason(StrEnum):
    """One word per way a row can be unusable; the detail beside it says the rest."""

    NOT_JSON = "not_json"
    NOT_AN_OBJECT = "not_an_object"
    NOT_CSV = "not_csv"
    INVALID_UTF8 = "invalid_utf8"
    MISSING_FIELD = "missing_field"
    EMPTY_FIELD = "empty_field"
    WRONG_TYPE = "wrong_type"
    NO_SUPERVISED_TOKEN = "no_supervised_token"
    TOO_LONG = "too_long"
    DUPLICATE_ID = "duplicate_id"
    TEMPLATE_ERROR = "template_error"
