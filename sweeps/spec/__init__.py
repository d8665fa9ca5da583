"""The check of a study file; opens no file other than the text it is given."""
