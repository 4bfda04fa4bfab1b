"""Sign-in with institutions by OpenID Connect, over aiohttp and PyJWT."""
