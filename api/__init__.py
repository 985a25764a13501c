"""HTTP: validation, dialects (OpenAI, Ollama, jobs), streaming, health and metrics."""
