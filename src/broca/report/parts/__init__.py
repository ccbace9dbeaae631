"""What sections share: tables, charts, verdicts, words for numbers."""
