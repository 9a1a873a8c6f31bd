-- UTF8 by name: a server that was set up without a locale would take SQL_ASCII, in which MLflow cannot read.
CREATE DATABASE mlflow ENCODING 'UTF8' TEMPLATE template0;
CREATE DATABASE mlflow_users ENCODING 'UTF8' TEMPLATE template0;
CREATE DATABASE prefect ENCODING 'UTF8' TEMPLATE template0;
