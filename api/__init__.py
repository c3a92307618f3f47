"""The public API: translate a request, call one operation or query, translate its answer back."""
