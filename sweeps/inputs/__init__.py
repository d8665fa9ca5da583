"""Tables that users have, opened whatever their format: data, points to predict, lists of configurations."""
