.PHONY: test lint types ci
test: ; pytest
lint: ; ruff check . && ruff format --check . && lint-imports
ci: ; bash .ci/run
