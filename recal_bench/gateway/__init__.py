"""A trained router in front of models: an OpenAI-compatible endpoint that routes, falls back, prices and logs."""
