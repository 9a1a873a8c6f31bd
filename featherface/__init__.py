"""Ultra-light face detection."""
