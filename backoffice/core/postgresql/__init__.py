"""Django's PostgreSQL backend, which keeps no list of its statements unless somebody asks for one."""
