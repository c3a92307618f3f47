from __future__ import annotations

import os

from django.core.wsgi import get_wsgi_application

from backoffice.core.collector import settle_in

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "backoffice.settings")
application = get_wsgi_application()
settle_in()
