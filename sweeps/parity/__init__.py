"""What a comparison of traces says to people: text, JSON, a page, and the study that measures what it found."""
