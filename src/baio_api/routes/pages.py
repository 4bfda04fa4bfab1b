"""The one web page that BAiO serves itself: it sets a new password, with a link that the administrator has made."""

import base64
import hashlib

from litestar import MediaType, Response, Router, get

RESET_PATH = "/resetPassword"

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
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
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


def _csp_hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


_POLICY = (
    f"default-src 'none'; script-src {_csp_hash(_SCRIPT)}; style-src {_csp_hash(_STYLE)}; connect-src 'self';"
    " form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)


@get(RESET_PATH, include_in_schema=False, sync_to_thread=False)
def reset_page() -> Response[str]:
    """The page. Its Content-Security-Policy allows only its own script and style."""
    return Response(_PAGE, media_type=MediaType.HTML, headers={"Content-Security-Policy": _POLICY})


def pages_router() -> Router:
    """The pages."""
    return Router("/", route_handlers=[reset_page])
