"""Trained routers inside other projects' gateways."""
