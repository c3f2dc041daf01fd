"""The page's JSON routes: each checks what the browser sends and calls the engine. No SQL, no HTML."""
