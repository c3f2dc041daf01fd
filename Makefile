.PHONY: test lint types ci
test: ; pytest
lint: ; ruff check . && ruff format --check . && lint-imports
# links that show type checkers and editors where vtag.engine is, then the types of the source
types:
	mkdir -p .types/vtag
	for room in app engine trainer assets; do ln -sfn ../../$$room .types/vtag/$$room; done
	MYPYPATH=.types mypy -p vtag.app -p vtag.engine -p vtag.trainer -p vtag.assets
ci: ; bash .ci/run
