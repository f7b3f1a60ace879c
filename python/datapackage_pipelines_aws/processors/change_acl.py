import logging

from datapackage_pipelines.wrapper import ingest, spew

from datapackage_pipelines_aws import change_acl, client

if __name__ == '__main__':
    parameters, datapackage, resources = ingest()

    def finish():
        n = change_acl(client(), parameters['bucket'], parameters['path'], parameters['acl'])
        logging.info('%d objects are %s', n, parameters['acl'])

    spew(datapackage, resources, finalizer=finish)
