"""Geography of France: gazetteer of communes, travel estimates."""
