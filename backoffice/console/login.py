"""Signing in: by e-mail address, and only for staff."""

from __future__ import annotations

from typing import Any

from unfold.forms import AuthenticationForm


class LoginForm(AuthenticationForm):
    """Unfold's login form in our words."""

    error_messages = {
        **AuthenticationForm.error_messages,
        "invalid_login": "This e-mail address and password do not open the console. Both are case-sensitive here; "
        "a guest's or host's account does not open it either.",
    }

    def __init__(self, request: Any = None, *args: Any, **kwargs: Any) -> None:
        super().__init__(request, *args, **kwargs)
        self.fields["username"].label = "E-mail address"
        self.fields["username"].widget.attrs.update(
            {"autocomplete": "username", "inputmode": "email", "placeholder": "you@company.example", "autofocus": True}
        )

    def clean_username(self) -> str:
        return str(self.cleaned_data["username"]).strip().lower()
