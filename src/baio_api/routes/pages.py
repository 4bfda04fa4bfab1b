"""The web pages that BAiO serves itself: an introduction, the documentation, and one that sets a new password.

Every address in them is relative, so they work below a path prefix of a proxy. An administrator's link leads to the
password page.
"""

import base64
import hashlib
from typing import Any

from litestar import MediaType, Request, Response, Router, get
from litestar.openapi.plugins import OpenAPIRenderPlugin

RESET_PATH = "/resetPassword"

_HEAD = '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'

_STYLE = """
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 24rem; margin: 4rem auto; padding: 0 1rem; color: #1b2a2f }
label, input, button { display: block; width: 100%; box-sizing: border-box; font: inherit }
input { margin: .25rem 0 1rem; padding: .5rem; border: 1px solid #7a8b90; border-radius: 4px }
button { padding: .5rem; border: 0; border-radius: 4px; background: #0b6b5d; color: white; cursor: pointer }
#message { min-height: 3rem; margin-top: 1rem }
"""

# The token is in the fragment of the link's URL, which browsers never send to a server.
_SCRIPT = """
const form = document.querySelector('form'), message = document.querySelector('#message');
const token = decodeURIComponent(location.hash.slice(1));
history.replaceState(null, '', location.pathname);
if (!token) message.textContent = 'This link is incomplete. Ask your administrator for a new one.';
form.addEventListener('submit', async event => {
  event.preventDefault();
  const [password, again] = [...form.querySelectorAll('input')].map(input => input.value);
  if (password !== again) { message.textContent = 'The passwords do not match.'; return }
  try {
    const answer = await fetch('user/resetPassword/', {
      method: 'POST', headers: {'Content-Type': 'application/json'}, body: JSON.stringify({token, password})});
    const body = await answer.json();
    if (answer.ok) form.hidden = true;
    message.textContent = answer.ok ? 'Your password has been changed. You can now sign in with it.' : body.detail;
  } catch { message.textContent = 'The server could not be reached. Please try again.' }
});
"""

_PAGE = f"""<!doctype html>
<html lang="en"><head>{_HEAD}
<title>Set a new password</title><style>{_STYLE}</style></head><body>
<h1>Set a new password</h1>
<form>
<label>New password <input type="password" autocomplete="new-password" minlength="8" maxlength="1024" required></label>
<label>Repeat it <input type="password" autocomplete="new-password" minlength="8" maxlength="1024" required></label>
<button>Change password</button>
</form>
<p id="message" role="status"></p>
<script>{_SCRIPT}</script></body></html>
"""

_FRONT = f"""<!doctype html>
<html lang="en"><head>{_HEAD}
<title>BAiO</title><style>{_STYLE}</style></head><body>
<h1>BAiO</h1>
<p>This is the backend of a chat service for researchers in biology and genomics. Web clients, scripts and notebooks
talk to it over HTTP.</p>
<p><a href="docs">Documentation of the API</a></p>
</body></html>
"""

_DOCS = f"""<!doctype html>
<html lang="en"><head>{_HEAD}
<title>BAiO</title>
<link rel="stylesheet" href="FOLDERassets/swagger-ui.css">
<script src="FOLDERassets/swagger-ui-bundle.js"></script>
</head><body>
<div id="swagger"></div>
<script>
  const service = new URL('FOLDER' ? '.' : '..', location.origin + location.pathname);
  SwaggerUIBundle({{
    url: 'FOLDERopenapi.json', dom_id: '#swagger', deepLinking: true,
    requestInterceptor: request => {{
      const url = new URL(request.url, location);  // an operation's lacks the prefix that a proxy may have
      if (url.origin === service.origin && !url.pathname.startsWith(service.pathname))
        request.url = service.href + url.pathname.slice(1) + url.search;
      return request;
    }},
  }});
</script></body></html>
"""


class DocsPage(OpenAPIRenderPlugin):
    """Shows the OpenAPI document with Swagger UI, whose files this server has itself."""

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        """The page, whose addresses depend on whether its own ends with a slash."""
        del openapi_schema
        path: str = request.scope["raw_path"].decode()
        return _DOCS.replace("FOLDER", "" if path.endswith("/") else "docs/").encode()


def _csp_hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


_FRONT_POLICY = f"default-src 'none'; style-src {_csp_hash(_STYLE)}; base-uri 'none'; frame-ancestors 'none'"

_POLICY = (
    f"default-src 'none'; script-src {_csp_hash(_SCRIPT)}; style-src {_csp_hash(_STYLE)}; connect-src 'self';"
    " form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)


@get("/", include_in_schema=False, sync_to_thread=False)
def front_page() -> Response[str]:
    """What this is, for somebody who opens the server's address in a browser."""
    return Response(_FRONT, media_type=MediaType.HTML, headers={"Content-Security-Policy": _FRONT_POLICY})


@get(RESET_PATH, include_in_schema=False, sync_to_thread=False)
def reset_page() -> Response[str]:
    """The page. Its Content-Security-Policy allows only its own script and style."""
    return Response(_PAGE, media_type=MediaType.HTML, headers={"Content-Security-Policy": _POLICY})


def pages_router() -> Router:
    """The pages."""
    return Router("/", route_handlers=[front_page, reset_page])
