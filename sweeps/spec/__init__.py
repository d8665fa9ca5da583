"""The study file, checked: opens nothing but the text it is given."""
