"""The exploration, stage by stage, resumable: from a model file to records, plans and a report.

    settings     what the user asked for
    keys         what each record depends on
    timing       layers and whole models: built, verified, measured
    fit_errors   what fits of single layers lose
    corrections  which corrections of a whole model win
    weights      weights of whole models, as files
    evaluation   models evaluated on the data
    accuracies   accuracies, recorded
    context      what every stage needs
    layers       narrow the spaces; measure and judge layers
    plans        finalists, whole models, the choice
    facts        model, data and spaces in the words of the report
    explore      the stages in order
    run          a run folder, read back

Every figure is written when it exists and looked up before it is made: a killed run goes on where it was.
"""
