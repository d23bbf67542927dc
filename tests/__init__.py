"""The template's own tests: what is rendered, and whether what is rendered holds."""
