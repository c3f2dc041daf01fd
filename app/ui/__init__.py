"""The web page over the library, with Gradio. Imports engine and trainer.loop.state_paths; loads no model itself."""
