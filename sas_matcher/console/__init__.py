"""The pages people work on: server-rendered (Jinja2, htmx), live over a websocket, served by the API's workers.

``site`` builds the routes, ``visit`` is what a handler gets, ``doors`` lets people in, ``live`` pushes; each workplace
is a module with its ``Pages`` and a folder of templates. ``docs/console.md`` says how a page is made.
"""
