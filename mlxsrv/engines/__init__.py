"""One engine per modality: from core requests to core events, whatever the backend."""
