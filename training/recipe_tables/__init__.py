"""Tables of a recipe that belong to one part of the project each; ``training.recipe`` puts them together."""
