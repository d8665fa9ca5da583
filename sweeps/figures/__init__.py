"""Pictures: functions from arrays to the bytes of an SVG or PNG."""
