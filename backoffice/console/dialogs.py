"""Whatever changes something in the console is a dialog: it asks a permission, shows what will happen, wants a POST with
a CSRF token, carries an idempotency key and the version that was seen, and calls one operation.

A dialog has an address of its own. Opened through htmx it stands in Unfold's modal; opened directly it is a page.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Final, Protocol

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html
from unfold.widgets import UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

from backoffice.console import cells
from backoffice.console.door import Desk, desk_of, may
from backoffice.core.errors import Invalid, NotAllowed, NotFound, StaleVersion, StaydeskError
from backoffice.core.money import Money


class Lists(Protocol):
    """What a dialog needs to know of the list its row stands in: an admin of `base`, which knows its dialogs in turn."""

    verb: str
    key: str
    singular: str
    opts: Any
    admin_site: Any

    def find(self, key: str, desk: Desk) -> Any: ...
    def stand(self, request: HttpRequest, crumb: str = "") -> None: ...


# A changed answer that changes the numbers asks the server for them anew, and for the words on the button.
_REFRESHING: Final = {
    "hx-trigger": "change",
    "hx-target": "#dialog-preview",
    "hx-select": "#dialog-preview",
    "hx-select-oob": "#dialog-submit",
    "hx-swap": "outerHTML",
    "hx-include": "closest form",
    "hx-vals": '{"preview": "1"}',
}


class DialogForm(forms.Form):
    """`key` makes a repeat of the same decision the same decision; `version` is what was looked at."""

    key = forms.CharField(widget=forms.HiddenInput, max_length=64)
    version = forms.IntegerField(widget=forms.HiddenInput, min_value=0)


class ReasonForm(DialogForm):
    """A decision that says why; the reason is kept in the audit log."""

    reason = forms.CharField(
        label="Reason",
        min_length=3,
        max_length=500,
        strip=True,
        help_text="Kept in the audit log beside your name. Name no guest or host here.",
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 3, "placeholder": "Why, in a sentence"}),
        error_messages={"required": "Say why: the reason is kept in the audit log."},
    )


class Dialog:
    """One act on one row. `verb` is the permission; `offered` says whether the row's state allows the act now.

    `deciding` names the answers that change the preview: what is performed is what was previewed, never another amount."""

    name: ClassVar[str]
    label: ClassVar[str]
    verb: ClassVar[str]
    title: ClassVar[str] = ""
    intro: ClassVar[str] = ""
    submit: ClassVar[str] = ""
    icon: ClassVar[str] = "edit"
    tone: ClassVar[str] = "default"
    form_class: ClassVar[type[DialogForm]] = ReasonForm
    preview_template: ClassVar[str] = ""
    deciding: ClassVar[tuple[str, ...]] = ()
    wide: ClassVar[bool] = False

    def __init__(self, admin: Lists, row: Any, desk: Desk) -> None:
        self.admin, self.row, self.desk = admin, row, desk

    @property
    def address(self) -> str:
        meta = self.admin.opts
        key = cells.key_of(self.row, self.admin.key)
        return reverse(f"admin:{meta.app_label}_{meta.model_name}_{self.name}", args=[key])

    @property
    def heading(self) -> str:
        return self.title or f"{self.label} {self.row}"

    @property
    def introduction(self) -> str:
        """What is said first; a dialog that must look at its row to say it overrides this."""
        return self.intro

    def offered(self) -> bool:
        """Whether the row's state allows the act now."""
        return True

    def unoffered(self) -> str:
        """Why it is not offered, in a sentence."""
        return f"This cannot be done now: it is {cells.words(self.row.status)}."

    def version(self) -> int:
        """The version of what is being decided about."""
        return int(self.row.version)

    def form(self, data: Any = None, initial: dict[str, Any] | None = None) -> DialogForm:
        form = self.form_class(data, initial=initial, auto_id="dialog_%s")
        for name in self.deciding:
            form.fields[name].widget.attrs.update({**_REFRESHING, "hx-post": self.address})
        return form

    def initial(self) -> dict[str, Any]:
        return {"key": uuid.uuid4().hex, "version": self.version()}

    def preview(self, form: DialogForm) -> dict[str, Any]:
        """Context of `preview_template`: what the act would do, computed now by the server. Raises domain errors."""
        return {}

    def fingerprint(self, form: DialogForm) -> str:
        """What the preview on the screen was for: the answers that change the numbers."""
        return "|".join(answer(form, name).strip() for name in self.deciding)

    def decision(self, form: DialogForm) -> str:
        """The key of this decision for an operation that keeps one: the same form of the same person, sent again."""
        return f"console:{self.desk.actor.id}:{form.cleaned_data['key']}"

    def same(self, form: DialogForm) -> None:
        """Where the operation takes no version: raise StaleVersion unless what was shown is the present."""
        if self.version() != form.cleaned_data["version"]:
            raise StaleVersion(kind=self.admin.singular)

    def perform(self, form: DialogForm) -> str:
        """Do it, and say what was done in a sentence fit for a message. Raises domain errors."""
        raise NotImplementedError

    def landing(self) -> str:
        """Where the person is taken afterwards."""
        return cells.address_of(self.row)


class Checked(Dialog):
    """Offered exactly while the operation's own check lets it: a button that then refuses would be a bug."""

    def check(self) -> object:
        """What the operation asks first; raises a domain error for what it would refuse."""
        raise NotImplementedError

    def offered(self) -> bool:
        return not self.unoffered()

    def unoffered(self) -> str:
        try:
            self.check()
        except StaydeskError as refusal:
            return str(refusal)
        return ""


def view_of(kind: type[Dialog], admin: Lists) -> Callable[..., HttpResponse]:
    """The view of a dialog on `admin`'s rows: GET shows, POST with `preview` shows anew, POST performs."""

    def view(request: HttpRequest, key: str) -> HttpResponse:
        if request.method not in {"GET", "HEAD", "POST"}:
            return HttpResponseNotAllowed(["GET", "HEAD", "POST"])
        if not (may(request, admin.verb) and may(request, kind.verb)):
            raise PermissionDenied
        desk = desk_of(request)
        dialog = kind(admin, admin.find(key, desk), desk)
        if request.method != "POST":
            return _show(dialog, dialog.form(initial=dialog.initial()))
        form = dialog.form(request.POST)
        if "preview" in request.POST:
            return _show(dialog, _unbound(dialog, form))
        if not form.is_valid():
            return _show(dialog, form, status=422)
        if request.POST.get("seen", "") != dialog.fingerprint(form):
            return _show(
                dialog, _unbound(dialog, form), error="These are the numbers for what you wrote. Confirm them."
            )
        return _perform(dialog, form)

    view.dialog = kind  # type: ignore[attr-defined]  # the tests' walk over every address reads it
    view.model_admin = admin  # type: ignore[attr-defined]  # so is this
    return view


def _perform(dialog: Dialog, form: DialogForm) -> HttpResponse:
    try:
        said = dialog.perform(form)
    except StaydeskError as error:
        return _refused(dialog, form, error)
    messages.success(dialog.desk.request, said)
    return _go(dialog.desk.request, dialog.landing())


def _refused(dialog: Dialog, form: DialogForm, error: StaydeskError) -> HttpResponse:
    if isinstance(error, NotFound):
        raise error
    if isinstance(error, StaleVersion):
        fresh = dialog.admin.find(cells.key_of(dialog.row, dialog.admin.key), dialog.desk)
        again = type(dialog)(dialog.admin, fresh, dialog.desk)
        # Nothing was done with the old key, and what is decided now is another thing: a new key and version.
        return _show(again, _unbound(again, form, **again.initial()), error=str(error), status=409)
    return _show(dialog, form, error=str(error), status=403 if isinstance(error, NotAllowed) else 409)


def _unbound(dialog: Dialog, form: DialogForm, **changed: Any) -> DialogForm:
    """The same answers in a form that is not complained about yet."""
    form.is_valid()
    typed = {name: form.data.get(name, "") for name in form.fields}
    return dialog.form(initial={**typed, **changed})


def _show(dialog: Dialog, form: DialogForm, *, error: str = "", status: int = 200) -> HttpResponse:
    request = dialog.desk.request
    shown: dict[str, Any] = {}
    if dialog.preview_template:
        try:
            shown = dialog.preview(form)
        except NotFound:
            raise
        except StaydeskError as refusal:
            shown = {"preview_error": str(refusal)}
    if not dialog.offered() and not error:
        error = dialog.unoffered()
    first = [form[name] for name in dialog.deciding]
    context = {
        "dialog": dialog,
        "form": form,
        "error": error,
        "seen": dialog.fingerprint(form),
        "deciding_fields": first,
        "other_fields": [field for field in form.visible_fields() if field.name not in dialog.deciding],
        **shown,
    }
    if _is_htmx(request):
        # A fragment is answered with 200: htmx throws away what comes with another status.
        return TemplateResponse(request, "console/dialog.html", context)
    dialog.admin.stand(request, dialog.label)
    context = {
        **dialog.admin.admin_site.each_context(request),
        "title": dialog.heading,
        "opts": dialog.admin.opts,
        **context,
    }
    return TemplateResponse(request, "console/dialog_page.html", context, status=status)


def _go(request: HttpRequest, address: str) -> HttpResponse:
    if _is_htmx(request):
        return HttpResponse(headers={"HX-Redirect": address})
    return HttpResponseRedirect(address)


def _is_htmx(request: HttpRequest) -> bool:
    return request.headers.get("HX-Request") == "true"


def amount_of(text: str, currency: str) -> Money:
    """An amount as a person typed it. Raises Invalid naming the field, with an example."""
    try:
        return Money.parse(text.strip().replace(" ", ""), currency)
    except (ValueError, ArithmeticError):
        raise Invalid(
            f"amount: write a number such as {Money(12345, currency).decimal()}, in {currency}.", field="amount"
        ) from None


def amount_field(label: str = "Amount", *, required: bool = True, help_text: str = "") -> forms.CharField:
    """Where an amount is typed; it is parsed by `amount_of` once its currency is known."""
    return forms.CharField(
        label=label,
        max_length=20,
        required=required,
        help_text=help_text,
        widget=UnfoldAdminTextInputWidget(attrs={"inputmode": "decimal", "autocomplete": "off"}),
        error_messages={"required": "Write how much."},
    )


def offer(form: DialogForm, name: str, choices: Iterable[tuple[Any, str]]) -> None:
    """What can be chosen in a field, known only when its row is."""
    field = form.fields[name]
    assert isinstance(field, forms.ChoiceField), name
    field.choices = list(choices)


def answer(form: DialogForm, name: str) -> str:
    """What the form says for a field now, typed or as it began."""
    return str((form.data.get(name) if form.is_bound else form.initial.get(name)) or "")


def said(text: str, thing: Any) -> str:
    """A message that leads to what it speaks of."""
    return format_html('{} <a class="sd-link" href="{}">{}</a>', text, cells.address_of(thing), thing.code)
