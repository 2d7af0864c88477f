"""A WSGI application for gunicorn: answers with what it was sent, and who asked."""


def app(environ, start_response):
    body = environ["wsgi.input"].read()
    asker = environ.get("HTTP_X_FORWARDED_FOR", "nobody")
    answer = b"from " + asker.encode() + b": " + body
    start_response("200 OK", [("Content-Length", str(len(answer)))])
    return [answer]
