"""Files: evidence that is uploaded, reports that are fetched. Contents come from ``/v1/files/{id}/contents``."""

from __future__ import annotations

from ops_cli.stripe_sandbox.context import Context
from ops_cli.stripe_sandbox.errors import ApiError, Json
from ops_cli.stripe_sandbox.filing import Upload, store
from ops_cli.stripe_sandbox.paging import objects, show_document
from ops_cli.stripe_sandbox.params import Choice, NotSimulated, Text, TimeRange, Values, listing
from ops_cli.stripe_sandbox.registry import operation

_UPLOADED = (
    "account_requirement", "additional_verification", "business_icon", "business_logo", "customer_signature",
    "dispute_evidence", "identity_document", "issuing_regulatory_reporting", "pci_document",
    "platform_terms_of_service", "tax_document_user_upload", "terminal_android_apk", "terminal_reader_splashscreen",
    "terminal_wifi_certificate", "terminal_wifi_private_key",
)  # fmt: skip
_MADE = (
    "document_provider_identity_document", "finance_report_run", "financial_account_statement",
    "identity_document_downloadable", "selfie", "sigma_scheduled_query",
)  # fmt: skip
MOST_BYTES = 5 * 2**20


@operation(
    "POST",
    "/v1/files",
    {"file": Text(required=True), "file_link_data": NotSimulated(), "purpose": Choice(of=_UPLOADED, required=True)},
)
def create_file(ctx: Context, params: Values) -> Json:
    """Upload a file (multipart). Evidence is a PDF, JPEG or PNG of at most 5 MB."""
    upload = params["file"]
    if not isinstance(upload, Upload):
        raise ApiError(400, "Invalid file: send it as multipart/form-data.", param="file")
    if not upload.content:
        raise ApiError(400, "The file you provided is empty.", param="file")
    if params["purpose"] == "dispute_evidence":
        if upload.type not in ("pdf", "jpg", "png"):
            raise ApiError(400, "The file type must be one of pdf, jpg or png for dispute evidence.", param="file")
        if len(upload.content) > MOST_BYTES:
            raise ApiError(400, "The file size must not exceed 5 MB for dispute evidence.", param="file")
    return store(ctx, upload, params["purpose"]).doc


@operation("GET", "/v1/files", listing(created=TimeRange(), purpose=Choice(of=(*_UPLOADED, *_MADE))))
def list_files(ctx: Context, params: Values) -> Json:
    """Files, newest first."""
    query = objects(ctx, "file").created(params).equal(params, purpose="doc ->> '$.purpose'")
    return query.page(params, "/v1/files", show_document)


@operation("GET", "/v1/files/{file}")
def retrieve_file(ctx: Context, params: Values, file: str) -> Json:
    """One file; what is in it comes from its ``url``."""
    return ctx.load("file", file, noun="file upload", param="file").doc
