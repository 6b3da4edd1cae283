"""`python -m serve.server`: the champion's forecasts over HTTP; see conf/serve.yaml."""

if __name__ == "__main__":  # the processes that the service spawns import this module too, and need nothing of it
    from lstm_ts.cli import check_arguments

    check_arguments("serve")  # before what is slow to import
    from serve.registry_process import first_process

    first_process()  # it takes longest to start, and does so while this one imports the rest
    from serve.startup import main

    main()
