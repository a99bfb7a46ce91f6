"""What export_model.py and the tests share: small models, and how to export them."""
