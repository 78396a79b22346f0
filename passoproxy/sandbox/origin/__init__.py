"""The simulated resource server: the endpoints under `/api/v2`, who may ask them, and how they break."""
