"""What is wrong with a record that can't be read, in msgspec's words, and in none of the record's."""


def unquoted(error: Exception) -> str:
    """Give the sentence of an error; where it quotes a value, which may be somebody's number, the place alone."""
    words, _, place = str(error).rpartition(" - at ")
    return f"Not one of the words allowed - at {place}" if words.startswith("Invalid enum value") else str(error)
