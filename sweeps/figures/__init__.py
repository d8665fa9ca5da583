"""Pictures: functions from arrays to figures of Matplotlib, and from these to the bytes of an SVG or PNG."""
