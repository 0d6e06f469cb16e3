"""OpenAPI: the document of the API: forms and answers, errors, examples."""
