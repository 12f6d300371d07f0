"""Where events come from: builders from the catalogue, files, standard input."""
