"""Former path of `engine.queue.runner`, which dashboards started before an upgrade still call. Gone with 0.3."""

from engine.queue.runner import main

if __name__ == "__main__":
    main()
