"""What happens around every call, outermost first: telemetry, errors, identity."""
