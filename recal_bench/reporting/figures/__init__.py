"""Run records to numbers."""
