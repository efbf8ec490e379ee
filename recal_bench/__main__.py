from recal_bench.cli import main

main()
