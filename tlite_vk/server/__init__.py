"""The OpenAI API over a model: `tlite-vk serve`. Needs the extra `serve`: pip install 'tlite-vk[serve]'."""
