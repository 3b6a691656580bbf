"""What the role puts beside an application so that gunicorn serves it without losing a request."""
