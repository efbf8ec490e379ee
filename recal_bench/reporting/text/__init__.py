"""Numbers to text: tables for the terminal, markdown, CSV, JSON."""
