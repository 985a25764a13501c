"""What is in the text of an answer: content, thoughts, tool calls. One place for all dialects, streamed or not."""
