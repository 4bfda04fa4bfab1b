"""The one page that BAiO brings itself: to set another password, behind a link that the administrator has made."""

import base64
import hashlib

from litestar import MediaType, Response, Router, get

RESET_PATH = "/resetPassword"

_STYLE = """
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 24rem; margin: 4rem auto; padding: 0 1rem; color: #1b2a2f }
label, input, button { display: block; width: 100%; box-sizing: border-box; font: inherit }
input { margin: .25rem 0 1rem; padding: .5rem; border: 1px solid #7a8b90; border-radius: 4px }
button { padding: .5rem; border: 0; border-radius: 4px; background: #0b6b5d; color: white; cursor: pointer }
#said { min-height: 3rem; margin-top: 1rem }
"""

# The token is in the link's fragment, which browsers send to nobody.
_SCRIPT = """
const form = document.querySelector('form'), said = document.querySelector('#said');
const token = decodeURIComponent(location.hash.slice(1));
history.replaceState(null, '', location.pathname);
if (!token) said.textContent = 'This link is not complete. Ask for another one.';
form.addEventListener('submit', async event => {
  event.preventDefault();
  const [password, again] = [...form.querySelectorAll('input')].map(input => input.value);
  if (password !== again) { said.textContent = 'The two passwords differ.'; return }
  try {
    const answer = await fetch('user/resetPassword/', {
      method: 'POST', headers: {'Content-Type': 'application/json'}, body: JSON.stringify({token, password})});
    const told = await answer.json();
    if (answer.ok) { form.hidden = true; said.textContent = 'Your password is changed. You can sign in with it now.' }
    else said.textContent = told.detail;
  } catch { said.textContent = 'The server could not be reached. Try again.' }
});
"""

_PAGE = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>BAiO: another password</title><style>{_STYLE}</style></head><body>
<h1>Another password</h1>
<form>
<label>New password <input type="password" autocomplete="new-password" minlength="8" maxlength="1024" required></label>
<label>Once more <input type="password" autocomplete="new-password" minlength="8" maxlength="1024" required></label>
<button>Change it</button>
</form>
<p id="said" role="status"></p>
<script>{_SCRIPT}</script></body></html>
"""


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


_POLICY = (
    f"default-src 'none'; script-src {_source(_SCRIPT)}; style-src {_source(_STYLE)}; connect-src 'self';"
    " form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)


@get(RESET_PATH, include_in_schema=False, sync_to_thread=False)
def reset_page() -> Response[str]:
    """The page, which may run its own script alone."""
    return Response(_PAGE, media_type=MediaType.HTML, headers={"Content-Security-Policy": _POLICY})


def pages_router() -> Router:
    """The pages."""
    return Router("/", route_handlers=[reset_page])
